from dataclasses import asdict
from pathlib import Path

import pytest

from gvsl.records import RunRecord, read_record, write_record
from gvsl.records.comparability import changes
from gvsl.settings import current_names, effects_of, flatten
from gvsl.settings.pretrain import PretrainSettings
from gvsl.settings.transfer import TransferSettings

BEFORE = {"batch": 2, "any_contract": True, "trainer": {"accelerator": "gpu", "max_steps": 3}, "device": "cuda"}
NOW = {"batch_size": 2, "allow_preprocessing_mismatch": True, "trainer": {"device": "cuda", "max_steps": 3}}


def test_renamed_settings_have_todays_names_nested_or_flat() -> None:
    assert current_names(BEFORE) == NOW | {"device": "cuda"}
    assert current_names(flatten(BEFORE)) == flatten(NOW) | {"device": "cuda"}
    assert current_names(NOW) == NOW


def test_an_earlier_record_is_read_with_todays_names(tmp_path: Path) -> None:
    effects = {"trainer.accelerator": "nothing", "any_contract": "nothing"}
    record = RunRecord("transfer", "run", 0, BEFORE, {"name": "store", "hash": "ab"}, effects=effects)
    write_record(record, tmp_path)
    found = read_record(tmp_path)
    assert found.config == NOW | {"device": "cuda"}
    assert found.effects == {"trainer.device": "nothing", "allow_preprocessing_mismatch": "nothing"}


def test_a_run_that_was_begun_under_earlier_names_can_be_resumed() -> None:
    assert changes({"batch": 2, "any_contract": True}, {"batch_size": 2}, effects_of(TransferSettings())) == []
    assert [str(one) for one in changes({"batch": 2}, {"batch_size": 3}, {})] == ["batch_size 2, now 3"]
    began = {"trainer": {"accelerator": "cpu", "max_steps": 3}}
    assert changes(began, {"trainer": {"device": "cuda", "max_steps": 3}}, effects_of(PretrainSettings())) == []


@pytest.mark.parametrize("settings", [PretrainSettings(), TransferSettings()])
def test_no_setting_has_an_earlier_name(settings: PretrainSettings | TransferSettings) -> None:
    names = dict.fromkeys([*flatten(asdict(settings)), *effects_of(settings)])
    assert current_names(names).keys() == names.keys()
