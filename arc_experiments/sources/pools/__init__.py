"""Tasks with many pairs each, of which every visit shows a few: kept in a store on disk, or made by generators."""
