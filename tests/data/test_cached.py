"""Names of cache files stay the same, so that existing caches are found."""

import datasets

from patchit_hf.data.cached import cache_path


def test_the_names_of_caches_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    word = "a2db7aae5f2847262d9ea60d"
    assert cache_path("{}.json", "a key") == tmp_path / "patchit_hf" / f"{word}.json"
    assert cache_path("pictures-{}", "a key") == tmp_path / "patchit_hf" / f"pictures-{word}"
    assert cache_path("{}.json", "another") != cache_path("{}.json", "a key")
