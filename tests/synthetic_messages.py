"""The same as `synthetic_dataset.py`, as rows of messages without a collator."""

import synthetic_dataset


def get_custom_dataset(dataset_config, processor, split):
    return [
        {
            "messages": [
                {"role": role, "content": turn[role_there].strip()}
                for turn in sample["texts"]
                for role, role_there in (("user", "user"), ("assistant", "assistant"))
            ],
            "images": sample["images"],
        }
        for sample in synthetic_dataset.get_custom_dataset(dataset_config, processor, split)
    ]
