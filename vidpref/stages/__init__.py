"""Pretrain, sample, label, align, evaluate, report: the only room that knows all others."""
