from patchit_hf.finetune.report import FinetuneReporter


def test_the_metric_that_weights_are_kept_by_comes_first():
    entry = {"step": 5, "eval_a": 0.1, "eval_b": 0.2, "eval_c": 0.3, "eval_d": 0.4, "eval_map": 0.5}
    line = FinetuneReporter("map").line(entry)
    assert line == "step 5: validation mAP 50.0%, a 10.0%, b 20.0%, c 30.0%"
