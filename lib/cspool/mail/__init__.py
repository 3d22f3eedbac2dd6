"""Mail as octets: the parts of a message, and what is computed from them. Nothing here uses records or databases."""
