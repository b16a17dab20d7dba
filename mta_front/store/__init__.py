"""Where Redis lives. Knows no SMTP: it keeps bytes and JSON, and says what became of them."""
