"""The declarations are consistent and documented, and every setting is used."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from duopose.config import default_config, load_config
from duopose.config.build import get_setting
from duopose.config.load import convert, flatten
from duopose.config.settings import SECTIONS, SETTINGS
from duopose.config.settings_page import settings_page
from duopose.decode.build import decoder_settings
from duopose.decode.decoder_settings import DecoderSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
DECODER_KEYS = [key for key, setting in SETTINGS.items() if setting.field]


def test_keys_are_unique_and_in_their_section() -> None:
    declared = [setting.key for settings in SECTIONS.values() for setting in settings]
    assert len(declared) == len(SETTINGS) == len(flatten(default_config()))
    for section, settings in SECTIONS.items():
        assert all(setting.key.rpartition(".")[0] == section for setting in settings)


@pytest.mark.parametrize("key", SETTINGS)
def test_defaults_pass_their_own_check(key: str) -> None:
    setting = SETTINGS[key]
    assert setting.problem(setting.default) == ""
    assert convert(setting.default, setting.default) == setting.default
    assert setting.doc.endswith(".") and setting.check.allowed


def test_default_trees_share_nothing() -> None:
    default_config().TRAIN.LR_STEP.append(1)
    assert default_config().TRAIN.LR_STEP == SETTINGS["TRAIN.LR_STEP"].default == [200, 260]


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == settings_page()
    assert all(f"| `{key}` |" in settings_page() for key in SETTINGS)


def test_every_field_of_the_decoder_is_declared_once() -> None:
    declared = sorted(setting.field for setting in SETTINGS.values() if setting.field)
    only_calibrated = {"log_gain_tag", "log_gain_offset", "overlap_sigma", "calibration"}
    assert declared == sorted({field.name for field in fields(DecoderSettings)} - only_calibrated)


def another_value(key: str) -> Any:
    """An allowed value that is not the default."""
    default = SETTINGS[key].default
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return "off"
    return default + 2 if isinstance(default, int) else default * 0.5 + 0.07


@pytest.mark.parametrize("key", DECODER_KEYS)
def test_decoder_settings_reach_the_decoder(key: str) -> None:
    clean = ["TEST.PRESET", "clean"] if key == "TEST.PERSON_THRESHOLD" else []
    cfg = load_config(None, [key, another_value(key), *clean])
    before = decoder_settings(load_config(None, clean))
    after = decoder_settings(cfg)

    name = SETTINGS[key].field
    changed = {
        field.name
        for field in fields(DecoderSettings)
        if getattr(before, field.name) != getattr(after, field.name)
    }
    assert changed == {name} and getattr(after, name) == get_setting(cfg, key)


def test_presets_of_the_decoder() -> None:
    leaderboard = decoder_settings(load_config(None))
    clean = decoder_settings(load_config(None, ["TEST.PRESET", "clean"]))
    assert leaderboard.fill and leaderboard.person_threshold == 0
    assert not clean.fill and clean.person_threshold == 0.2
