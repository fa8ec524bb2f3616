"""Generation: requests go in, completions come out, whatever engine makes them.

vLLM is imported in vllm.py alone, inside functions. It may import config, store, job and text.
"""
