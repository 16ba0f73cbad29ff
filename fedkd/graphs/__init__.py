"""Graphs of nodes with words and classes: the nodes of a client, a graph network, and the look-up of rows."""
