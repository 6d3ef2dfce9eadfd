"""What a run needs of memory and disk, by its composition alone; what there is of both; what to choose."""
