"""Our sides. They start as the command line does."""

from tunewright.cli import settle

settle()
