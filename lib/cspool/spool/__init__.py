"""The operator's side: the files of a spool, and who may read, append and compact them. Nothing here needs a key."""
