"""Groups of vectors against a naive loop."""

import pytest
import torch
import torch.nn.functional as F

from patchit_hf.patch_tasks import groups
from patchit_hf.patch_tasks.groups import groups_of
from patchit_hf.patch_tasks.identity import IdentityHead


def _naive(vectors, neighbours, overlap):
    count = len(vectors)
    cosines = F.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    sets = []
    for i in range(count):
        others = sorted((j for j in range(count) if j != i), key=lambda j: -cosines[i, j])
        sets.append({i, *others[:neighbours]})
    group = list(range(count))
    for i in range(count):
        for j in range(count):
            mutual = i in sets[j] and j in sets[i]
            if mutual and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= overlap:
                old, new = max(group[i], group[j]), min(group[i], group[j])
                group = [new if g == old else g for g in group]
    return group


@pytest.mark.parametrize("neighbours", [1, 3, 100])
@pytest.mark.parametrize("overlap", [0.2, 0.5, 1.0])
def test_groups_equal_a_naive_loop(neighbours, overlap, monkeypatch):
    monkeypatch.setattr(groups, "BLOCK", 7)
    torch.manual_seed(0)
    people = torch.randn(12, 8)
    vectors = (people[:, None] + 0.5 * torch.randn(12, 3, 8)).flatten(0, 1)[torch.randperm(36)]
    found = groups_of(vectors, neighbours, overlap).tolist()
    assert found == _naive(vectors, neighbours, overlap)
    if neighbours == 3 and overlap == 0.5:
        assert 1 < len(set(found)) < 36


def test_a_chain_is_one_group():
    angles = torch.linspace(0, 1, 50)[torch.randperm(50)]
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert groups_of(vectors, 4, 0.1).tolist() == [0] * 50


def test_joined_crops_are_one_class():
    head = IdentityHead(4, 8, 3, inputs=2, places=1, first=1, beside=False)
    head.set_table(5, seed=0, joined=True)
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0], [-1.0, -1.0]])
    head.fill_table(torch.arange(5), F.pad(vectors, (0, 126)))
    assert head.join(1, 0.5) == 3
    assert head.group.tolist() == [0, 1, 0, 1, 4]
    expected = F.normalize(F.pad(torch.tensor([[2.0, 0.1], [0.1, 2.0], [-1.0, -1.0]]), (0, 126)))
    torch.testing.assert_close(head.table[[0, 1, 4]].detach(), expected)
    output = head(torch.randn(6, 4, 1, 1))
    assert output["classes"].tolist() == [0, 1, 0, 1, 2]
    cosines = F.normalize(output["embedding"].flatten(0, 1), dim=1) @ expected.T
    torch.testing.assert_close(output["crops"], cosines)
    output["crops"].sum().backward()
    assert head.table.grad[[2, 3]].abs().sum() == 0
    bare = head.without_table()
    assert (bare.table, bare.group) == (None, None)
    assert set(dict(bare.state_dict())) == set(dict(head.state_dict())) - {"table", "group"}


def test_a_table_that_joins_nothing_refuses_to():
    head = IdentityHead(4, 8, 3, inputs=2, places=1, first=1, beside=False)
    head.set_table(5, seed=0)
    with pytest.raises(RuntimeError, match="joined=True"):
        head.join(1, 0.5)
