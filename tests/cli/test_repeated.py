from __future__ import annotations

import logging

from cryo_hpo.cli.repeated import repeated_once


def test_only_equal_sentences_of_scenes_are_kept_back(caplog, capsys):
    log = logging.getLogger("cryo_hpo.of_scenes")
    with repeated_once(log.name), caplog.at_level(logging.INFO):
        for text in ("a.tif: dark", "b.tif: dark", "b.tif: small", "no scene", "none either"):
            log.warning(text)
        log.info("c.tif: dark")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["a.tif: dark", "b.tif: small", "no scene", "none either", "c.tif: dark"]
    assert capsys.readouterr().err == "The same of 1 more scene (b.tif): dark\n"
    log.warning("b.tif: dark")
    assert caplog.records[-1].getMessage() == "b.tif: dark"
