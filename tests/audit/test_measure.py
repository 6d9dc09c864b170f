import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from patchit_hf.audit.cues import Questions
from patchit_hf.audit.measure import (
    answers,
    best_group,
    cautious_kappa,
    confused_groups,
    jackknife,
)


def test_jackknife_is_leaving_out_one_at_a_time():
    rng = np.random.default_rng(0)
    sums = rng.integers(1, 9, (2, 7)).astype(float)
    value, error = jackknife(lambda s: s[0] / s[1], sums)
    kept = [np.delete(sums, i, axis=1).sum(1) for i in range(7)]
    ratios = np.array([a / b for a, b in kept])
    assert value == pytest.approx(sums[0].sum() / sums[1].sum())
    assert error == pytest.approx(np.sqrt(6 / 7 * ((ratios - ratios.mean()) ** 2).sum()))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(1).normal(size=50)
    _, error = jackknife(lambda s: s[0] / s[1], np.stack([x, np.ones(50)]))
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(50))


def test_one_unit_proves_nothing():
    assert jackknife(lambda s: s[0], np.ones((1, 1)))[1] == np.inf


def test_kappa_is_cohens_with_four_mistakes_added():
    rng = np.random.default_rng(2)
    true = rng.random(200) < 0.2
    given = true ^ (rng.random(200) < 0.1)
    sums = np.array([(true == given).sum(), true.sum(), given.sum(), 200.0])
    wrong = np.array([True, True, False, False])
    expected = cohen_kappa_score(np.append(true, wrong), np.append(given, ~wrong))
    assert cautious_kappa(sums) == pytest.approx(expected)


def test_classes_taken_for_each_other_are_a_group():
    rng = np.random.default_rng(3)
    truth = np.tile(np.arange(18), 50)
    guess = rng.integers(0, 6, truth.shape) * 3 + truth % 3  # the column is known, the row is not
    groups = {tuple(np.flatnonzero(g)) for g in confused_groups(truth, guess, 18)}
    assert {tuple(range(column, 18, 3)) for column in range(3)} <= groups
    assert {(cell,) for cell in range(18)} <= groups
    assert max(map(len, groups)) <= 9


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_groups_of_few_classes(classes):
    truth = np.repeat(np.arange(classes), 5)
    groups = confused_groups(truth, truth, classes)
    assert len(groups) == (0 if classes == 1 else classes)


def test_the_best_group_is_the_one_told_from_the_others():
    rng = np.random.default_rng(4)
    truth = np.tile(np.arange(10), 30)
    guess = rng.integers(0, 10, truth.shape)
    guess[guess == 4] = 5
    guess[truth == 4] = 4
    kappa, group = best_group(Questions({}, truth, list(range(0, 300, 10))), guess, 10)
    assert group == [4]
    assert 0.85 < kappa < 1  # the four added mistakes


def test_few_questions_prove_nothing():
    truth = np.tile(np.arange(10), 2)
    kappa, _ = best_group(Questions({}, truth, [0, 10]), truth, 10)
    assert kappa < 0.75


def test_answers_are_repeatable_and_need_no_line():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 2))
    truth = (x[:, 0] * x[:, 1] > 0).astype(np.int64) * 3
    guess = answers(x[:400], truth[:400], x[400:], 0)
    assert (guess == truth[400:]).mean() > 0.9
    assert (guess == answers(x[:400], truth[:400], x[400:], 0)).all()


def test_a_class_that_was_never_seen_is_never_answered():
    x = np.zeros((4, 2))
    assert answers(x, np.full(4, 7), np.zeros((3, 2)), 0).tolist() == [7, 7, 7]
    assert set(answers(x, np.array([2, 2, 5, 5]), np.zeros((3, 2)), 0)) <= {2, 5}
