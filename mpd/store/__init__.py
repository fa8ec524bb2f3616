"""Results: what a file holds, who may write it, and how what was computed is found again.

Columns and versions (schema), strict Parquet (table) and its joins by key (joins), fingerprints and
publishing (publishing, locks, entries, content, parts, rights, spent, supervisor), what an artifact
was made from (digests, lineage, differences), and the folders of models (model_folder,
tokenizer_files, turns, foreign_code). It imports nothing else of mpd.
"""
