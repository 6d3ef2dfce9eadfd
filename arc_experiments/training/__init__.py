"""From the stream and a model to TRL's SFTTrainer, with exact validation loss and exact resume."""
