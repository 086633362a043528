"""One folder per library; nothing else imports it. Each adapter passes the contract suite of its port."""
