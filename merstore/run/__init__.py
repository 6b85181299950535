"""What is run on features and on clips: training, inference, zero-shot baselines, labels of answers."""
