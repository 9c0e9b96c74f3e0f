"""Messages of logs and what they mean, table by table; `signs.py` puts them in order and reads with them."""
