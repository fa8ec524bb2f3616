"""MPD: offline staged distillation that makes small reasoning models think shorter."""
