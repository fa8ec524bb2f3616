"""The generation engines, one module each; mpd/generate.py has what they share."""
