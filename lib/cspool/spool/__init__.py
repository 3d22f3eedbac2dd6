"""The operator's side: the files of a spool; reading, appending to and compacting its log. Nothing here needs a key."""
