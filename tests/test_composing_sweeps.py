"""Jobs of a sweep that share a composition get what Hydra would have composed for each."""

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from arc_experiments.composing.compose import compose as composing
from arc_experiments.composing.compose import sweeps as composing_sweeps
from arc_experiments.config.schema import conf_dir


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConfigLoaderImpl]:
    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", composing_sweeps.hydras_own)
    composing.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def compose_all(loader: ConfigLoaderImpl, jobs: list[list[str]]) -> list[DictConfig]:
    master = loader.load_configuration("config", overrides=["hydra.mode=MULTIRUN"], run_mode=RunMode.MULTIRUN)
    return [loader.load_sweep_config(master, overrides) for overrides in jobs]


def test_they_are_the_same_key_by_key(loader: ConfigLoaderImpl) -> None:
    jobs = [
        ["seed=1", "model.lora.rank=4"],
        ["seed=2", "model.lora.rank=8"],
        ["seed=2", "optim.max_steps=70", "optim=arc24"],
        ["optim.learning_rate=0.5", "optim=arc24", "seed=3", "model.lora=null"],
        ["model=qwen05", "seed=2", "inference.limit=null", "data.tasks=[a,b]"],
        ["+data@data.sources.mine=re_arc", "seed=2", "augmentation=[order]"],
    ]
    expected = compose_all(loader, jobs)
    composing_sweeps.share_compositions()
    found = compose_all(loader, jobs)
    for ours, hydras in zip(found, expected, strict=True):
        assert OmegaConf.to_container(ours) == OmegaConf.to_container(hydras)
        assert OmegaConf.get_type(ours) == OmegaConf.get_type(hydras)


def test_conf_is_read_once_for_jobs_that_differ_in_values_alone(
    loader: ConfigLoaderImpl, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(loader: ConfigLoaderImpl, master: DictConfig, overrides: list[str]) -> DictConfig:
        calls.append(overrides)
        return own(loader, master, overrides)

    own = composing_sweeps.hydras_own
    monkeypatch.setattr(composing_sweeps, "hydras_own", counted)
    composing_sweeps.share_compositions()
    first, *_, last = compose_all(loader, [[f"seed={seed}"] for seed in range(20)])
    assert calls == [[]]
    assert (first.seed, last.seed) == (0, 19)


def test_a_mistake_is_hydras_own(loader: ConfigLoaderImpl) -> None:
    composing_sweeps.share_compositions()
    with pytest.raises(Exception, match="nosuchkey"):
        compose_all(loader, [["optim.nosuchkey=1"]])
    with pytest.raises(Exception, match="nosuchoption"):
        compose_all(loader, [["optim=nosuchoption"]])
