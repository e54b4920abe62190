"""The six claims about the benchmark itself, judged from what is stored; no threshold moves to make one hold."""
