"""What attackers, broken clients and careless proxies send: tables that grow, and parsers that are compared."""
