"""The verbs: one module each, a straight line from top to bottom, `main(folder, console)`."""
