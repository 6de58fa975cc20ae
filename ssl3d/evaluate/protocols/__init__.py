"""How a frozen or fine-tuned encoder is evaluated, one protocol per file."""
