"""What makes a bundle: needs torch, scikit-learn and onnx (the extra `[train]`); never imported by serving.

The steps, in order: fit the tokenizer, pretrain the encoder, let a teacher make taxonomy and soft labels,
distill them into a head, calibrate, export.
"""
