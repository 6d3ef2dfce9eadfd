"""The words of a command line: groups and their options, and the names of the other commands."""

# `arc-experiments status` is `python -m arc_experiments.status`.
COMMANDS = {
    "compare": "which config is better, and whether these runs can tell",
    "study": "ask a question, run its arms and seeds, and decide by a rule set before",
    "status": "the state of every run, here and on a cluster",
    "runs": "all runs in a table, and on a page to search, sort and compare",
    "report": "the page of a run again, or two runs side by side (--against)",
    "export": "the trained weights as a plain folder: merged, adapter, for GGUF",
    "reselect": "select a run's two attempts again, without the model",
    "programs": "check one program on a task by hand",
    "import_config": "turn another pipeline's YAML into an experiment",
}
GROUPS = {
    "data": "where tasks come from, and which are held out",
    "model": "base model, dtype, quantisation, LoRA; chooses its prompt",
    "prompt": "how a task becomes text, and which tokens have a loss",
    "prompt/grid": "how a grid becomes text: a list, [shape,row_numbers]",
    "augmentation": "what is drawn for each sample, in this order: a list",
    "optim": "optimizer, schedule, steps",
    "inference": "views, engine and selection; how many tasks are answered",
    "hardware": "devices and processes",
    "tracking": "Weights & Biases",
    "job": "what to do",
    "launch": "on this machine or on a cluster",
    "experiment": "a named set of changes to all of this",
    "sweep": "which values a sweep tries",
}
