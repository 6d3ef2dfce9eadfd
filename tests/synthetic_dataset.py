"""A user's data set and collator in llama-cookbook's form: questions about images, one image a sample."""

import random

from PIL import Image

COLOURS = {"red": (200, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 200), "grey": (128, 128, 128)}


def get_custom_dataset(dataset_config, processor, split, split_ratio=0.9):
    samples = []
    for number in range(30):
        name, colour = random.choice(list(COLOURS.items()))
        image = Image.new("RGB", (24 + number, 20), colour)
        image.putpixel((number, 0), (255, 255, 255))
        turns = [{"user": "Which colour is this? ", "assistant": f" It is {name}."}]
        if number % 3 == 0:
            turns.append({"user": "How wide is it?", "assistant": f"{image.width} pixels"})
        samples.append({"images": [image], "texts": turns})
    num_train = round(len(samples) * split_ratio)
    return samples[:num_train] if split == "train" else samples[num_train:]


class Collator:
    def __init__(self, processor):
        self.processor = processor
        self.processor.tokenizer.padding_side = "right"

    def __call__(self, samples):
        dialogs, images = [], []
        for sample in samples:
            if len(sample["images"]) > 1:
                raise ValueError("only one image a sample")
            dialog = []
            for turn in sample["texts"]:
                shown = [] if dialog else [{"type": "image"}]
                dialog += [
                    {"role": "user", "content": [*shown, {"type": "text", "text": turn["user"].strip()}]},
                    {"role": "assistant", "content": [{"type": "text", "text": turn["assistant"].strip()}]},
                ]
            dialogs.append(dialog)
            images.append([sample["images"][0].convert("RGB")])
        return self.tokenize(dialogs, images)

    def tokenize(self, dialogs, images):
        texts = self.processor.apply_chat_template(dialogs)
        texts = [text.replace("<|begin_of_text|>", "") for text in texts]
        batch = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        labels = batch["input_ids"].clone()
        for row in labels:
            ids, start = row.tolist(), 0
            for end in [place for place, token in enumerate(ids) if token == 128009]:
                turn = ids[start : end + 1]
                if holds(turn, [128006, 882, 128007]) or holds(turn, [128006, 9125, 128007]):
                    row[start : end + 1] = -100
                start = end + 1
            for place in range(len(ids) - 2):
                if ids[place : place + 3] == [128006, 78191, 128007]:
                    row[place : place + 3] = -100
        labels[(labels == self.processor.tokenizer.pad_token_id) | (labels == 128256)] = -100
        batch["labels"] = labels
        return batch


def holds(turn, header):
    return any(turn[place : place + 3] == header for place in range(len(turn) - 2))


def get_data_collator(processor):
    return Collator(processor)
