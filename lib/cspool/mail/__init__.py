"""Mail as octets: what a message is made of, and what is computed of it. Nothing here knows of records or databases."""
