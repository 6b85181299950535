"""Training as MERTools does it, in a straight line: plain PyTorch, a DataLoader, scikit-learn.

Written from the facts (notes on MERTools 3.4, 4.2, 4.7, 4.8), with nothing of merstore's. Seeds are
taken as `merstore.run.training.baseline` documents them.
"""

import hashlib
import random

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset


def derive(seed, *what):
    text = "/".join(str(part) for part in (seed, *what))
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


class MLP(nn.Module):
    def __init__(self, size, hidden, dropout):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.linear_1 = nn.Linear(size, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)
        self.linear_3 = nn.Linear(hidden, hidden)

    def forward(self, x):
        x = torch.relu(self.linear_1(self.drop(x)))
        x = torch.relu(self.linear_2(x))
        return torch.relu(self.linear_3(x))


class LSTM(nn.Module):
    def __init__(self, size, hidden, dropout):
        super().__init__()
        self.rnn = nn.LSTM(size, hidden, num_layers=1, bidirectional=False, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.linear_1 = nn.Linear(hidden, hidden)

    def forward(self, x):
        _, (final, _) = self.rnn(x)
        return self.linear_1(self.drop(final[0]))


class Attention(nn.Module):
    def __init__(self, dims, classes, values, hidden, dropout, encoder=MLP):
        super().__init__()
        self.audio_encoder = encoder(dims[0], hidden, dropout)
        self.text_encoder = encoder(dims[1], hidden, dropout)
        self.video_encoder = encoder(dims[2], hidden, dropout)
        self.attention_mlp = MLP(hidden * 3, hidden, dropout)
        self.fc_att = nn.Linear(hidden, 3)
        self.fc_out_1 = nn.Linear(hidden, classes)
        self.fc_out_2 = nn.Linear(hidden, values)

    def forward(self, audio, text, video):
        audio, text, video = (
            self.audio_encoder(audio), self.text_encoder(text), self.video_encoder(video)
        )  # fmt: skip
        attention = self.fc_att(self.attention_mlp(torch.cat([audio, text, video], dim=1)))
        fused = torch.matmul(torch.stack([audio, text, video], dim=2), attention[:, :, None])
        fused = fused.squeeze(2)
        return self.fc_out_1(fused), self.fc_out_2(fused)


def loss_of(logits, values, emos, vals):
    loss = 0
    if logits.shape[1]:
        loss = nn.NLLLoss(reduction="sum")(torch.log_softmax(logits, 1), emos) / len(emos)
    if values.shape[1]:
        loss = loss + (values[:, 0] - vals).pow(2).sum() / len(vals)
    return loss


def folds_of(count, folds, seed):
    indices = list(range(count))
    random.Random(seed).shuffle(indices)
    size = count // folds
    parts = [indices[i * size : (i + 1) * size] for i in range(folds - 1)]
    parts.append(indices[(folds - 1) * size :])
    return [
        ([x for j, part in enumerate(parts) if j != i for x in part], parts[i])
        for i in range(folds)
    ]


def train(inputs, emos, vals, tests, classes, hyper, trial, seed, epochs, folds, encoder=MLP):
    """inputs: three arrays [N, D]; tests: name -> (three arrays, emos, vals). Returns the losses of
    all epochs by fold, the mean scores, and the tests' averaged logits and values.
    """
    columns = [*map(torch.from_numpy, inputs), torch.tensor(emos), torch.tensor(vals).float()]
    dataset = TensorDataset(*columns)
    history, scores, predicted = [], [], {name: [] for name in tests}
    for number, (train_rows, eval_rows) in enumerate(folds_of(len(emos), folds, seed)):
        torch.manual_seed(derive(seed, "init", trial, number))
        dims = [x.shape[-1] for x in inputs]
        model = Attention(dims, classes, 1, hyper["hidden_dim"], hyper["dropout"], encoder=encoder)
        optimiser = torch.optim.Adam(model.parameters(), lr=hyper["lr"], weight_decay=1e-5)
        order = torch.Generator().manual_seed(derive(seed, "order", number))
        sampler = SubsetRandomSampler(train_rows, generator=order)
        loader = DataLoader(dataset, 32, sampler=sampler, generator=torch.Generator())
        torch.manual_seed(derive(seed, "noise", number))
        losses, best = [], None
        for _ in range(epochs):
            model.train()
            total = []
            for *x, emo, val in loader:
                loss = loss_of(*model(*x), emo, val)
                optimiser.zero_grad()
                loss.backward()
                if hyper["grad_clip"] != -1:
                    nn.utils.clip_grad_value_(model.parameters(), hyper["grad_clip"])
                optimiser.step()
                total.append(loss.item())
            model.eval()
            with torch.no_grad():
                *x, emo, val = (column[eval_rows] for column in columns)
                logits, values = model(*x)
                f1 = f1_score(emo, logits.argmax(1), average="weighted")
                mse = mean_squared_error(val, values[:, 0])
                found = [f1, accuracy_score(emo, logits.argmax(1)), mse]
                tested = {
                    name: [x.numpy() for x in model(*map(torch.from_numpy, arrays))]
                    for name, arrays in tests.items()
                }
            losses.append((np.mean(total), loss_of(logits, values, emo, val).item()))
            metric = f1 - 0.25 * mse
            if best is None or metric > best[0]:
                best = metric, found, tested
        history.append(losses)
        scores.append(best[1])
        for name in tests:
            predicted[name].append(best[2][name])
    averaged = {
        name: [np.mean([fold[i] for fold in each], axis=0) for i in (0, 1)]
        for name, each in predicted.items()
    }
    return np.array(history), np.mean(scores, axis=0), averaged
