"""Tasks with many pairs, of which every visit shows a few: in a store on disk, or made by generators."""
