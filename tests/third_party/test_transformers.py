"""A model of the transformers library, trained by its Trainer."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from tutelage.torch import LearnedOptimizer


def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return BertForSequenceClassification(config)


def examples():
    tokens = torch.randint(1, 30, (64, 8), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": (row[0] > 15).long()} for row in tokens]


def trainer(folder, steps):
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=16,
        logging_steps=20,
        save_steps=20,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        lr_scheduler_type="constant",
        dataloader_pin_memory=False,
    )
    network = model()
    optimizer = LearnedOptimizer(network.parameters(), "rnnprop-cl-il")
    return Trainer(network, arguments, train_dataset=examples(), optimizers=(optimizer, None))


@pytest.mark.filterwarnings("default")  # theirs
def test_trainer_trains_and_resumes_from_its_own_checkpoint(tmp_path):
    whole = trainer(tmp_path / "whole", 60)
    whole.train()
    losses = [row["loss"] for row in whole.state.log_history if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]

    trainer(tmp_path / "parts", 40).train()
    resumed = trainer(tmp_path / "parts", 60)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 60
    for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
