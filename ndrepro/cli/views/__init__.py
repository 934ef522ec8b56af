"""What commands show of many runs at once: which are selected, how they are listed, drawn and watched."""
