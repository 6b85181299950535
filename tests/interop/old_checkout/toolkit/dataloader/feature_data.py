"""A split of three roles, one sample after the other, in memory."""

import math
import os

import config
import numpy as np
import torch
from torch.utils.data import Dataset

from toolkit.utils.read_features import *  # noqa: F403


def shorten(x, length):
    if len(x) == length:
        return x
    if len(x) < length:
        return np.concatenate([np.zeros((length - len(x), x.shape[1])), x])
    step, rest = divmod(len(x), length)
    if rest:
        step += 1
        x = np.concatenate([np.zeros((length - rest, x.shape[1])), x])
    return x.reshape(length, step, x.shape[1]).mean(axis=1)


def pad(role):
    longest = max(len(x) for x in role)
    return [shorten(x, longest) for x in role]


class Data_Feat(Dataset):
    def __init__(self, args, names, labels):
        super(Data_Feat, self).__init__()  # noqa: UP008  (as old code has it)
        self.names = names
        self.labels = labels
        home = config.PATH_TO_FEATURES[args.dataset]
        folders = (args.audio_feature, args.text_feature, args.video_feature)
        read = [
            func_read_multiprocess(os.path.join(home, folder), names)  # noqa: F405
            for folder in folders
        ]
        (audios, self.adim), (texts, self.tdim), (videos, self.vdim) = read
        roles = [
            [shorten(x, math.ceil(len(x) / args.feat_scale)) for x in role]
            for role in (audios, texts, videos)
        ]
        if args.feat_type == "utt":
            roles = [[x.mean(axis=0) for x in role] for role in roles]
        elif args.feat_type == "frm_align":
            texts = roles[1]
            roles = [
                pad([shorten(x, len(text)) for x, text in zip(role, texts, strict=True)])
                for role in roles
            ]
        else:
            roles = [pad(role) for role in roles]
        self.audios, self.texts, self.videos = roles
        print("dimensions", self.adim, self.tdim, self.vdim)

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return {
            "audio": self.audios[index],
            "text": self.texts[index],
            "video": self.videos[index],
            "emo": self.labels[index]["emo"],
            "val": self.labels[index]["val"],
            "name": self.names[index],
        }

    def collater(self, instances):
        batch = {
            role + "s": torch.FloatTensor(np.array([one[role] for one in instances]))
            for role in ("audio", "text", "video")
        }
        emos = torch.LongTensor([one["emo"] for one in instances])
        vals = torch.FloatTensor([one["val"] for one in instances])
        return batch, emos, vals, [one["name"] for one in instances]

    def get_featdim(self):
        return self.adim, self.tdim, self.vdim
