"""Who may log in, and as whom they may send: backends behind one chain, and sender authority."""
