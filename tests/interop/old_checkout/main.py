"""Reads a split in every way that there is, and prints a digest of every batch."""

import argparse
import hashlib
import os
import sys

import config
import torch
from toolkit.dataloader.feature_data import Data_Feat

SCALES = {"utt": 1, "frm_align": 6, "frm_unalign": 12}


def main():
    parser = argparse.ArgumentParser()
    for role in ("audio", "text", "video"):
        parser.add_argument("--" + role + "_feature")
    parser.add_argument("--level", default="UTT")
    parser.add_argument("--dataset", default="MER2023")
    args = parser.parse_args()
    print(sys.stdin.read())
    for feat_type in SCALES if args.level == "FRA" else ("utt",):
        args.feat_type = feat_type
        count = show(args)
    return count


def show(args):
    args.feat_scale = SCALES[args.feat_type]
    home = config.PATH_TO_FEATURES[args.dataset]
    names = sorted(file[:-4] for file in os.listdir(os.path.join(home, args.text_feature)))
    labels = [{"emo": i % 6, "val": i / 4} for i in range(len(names))]
    data = Data_Feat(args, names, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=4, collate_fn=data.collater)
    for batch, emos, vals, batch_names in loader:
        for role, values in batch.items():
            digest = hashlib.sha256(values.numpy().tobytes()).hexdigest()
            print(role, tuple(values.shape), digest, values.double().sum().item())
        print(emos.tolist(), vals.tolist(), batch_names)
    return len(names)


if __name__ == "__main__":
    sys.exit(main())
