"""What is lost, and where: right outputs that no candidate proposed, and those proposed but not chosen.

    1 = pass_at_2 + not_chosen + never_proposed

    {"never_proposed": 0.5, "not_chosen": 0.125,
     "interval": {"never_proposed": [0.4, 0.6], "not_chosen": [0.05, 0.2]},
     "by_selection": {"majority_vote": {"not_chosen": 0.15, "interval": [0.06, 0.24]}, ...}}

More candidates, or a better model, can win what was never proposed; a better rule only what was not chosen.
"""

from collections.abc import Mapping
from typing import Any

from arc_experiments.scoring.per_output import Marks, means
from arc_experiments.scoring.uncertainty import share_intervals


def lost(shares: Mapping[str, Marks], by_selection: Mapping[str, Mapping[str, Marks]]) -> dict[str, Any]:
    """Both parts by Kaggle's and ARC Prize's rule, with 95% intervals over tasks.

    Args:
        shares: `pass_at_2` and `pass_at_n` by task.
        by_selection: by rule and task, `pass_at_2` of the rule's attempts.
    """
    parts = {
        task_id: {
            "never_proposed": 1 - share["pass_at_n"],
            "not_chosen": share["pass_at_n"] - share["pass_at_2"],
        }
        for task_id, share in shares.items()
    }
    of_rules = {
        task_id: {
            name: share["pass_at_n"] - by_task[task_id]["pass_at_2"] for name, by_task in by_selection.items()
        }
        for task_id, share in shares.items()
    }
    bounds, of_rule = share_intervals(list(parts.values())), share_intervals(list(of_rules.values()))
    return {
        **means(parts),
        "interval": bounds,
        "by_selection": {
            name: {"not_chosen": value, "interval": of_rule[name]} for name, value in means(of_rules).items()
        },
    }
