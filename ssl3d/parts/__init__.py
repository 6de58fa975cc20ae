"""What methods and backbones are built of: momentum encoders, queues, heads, masks, decoders, norms."""
