"""Our sides. They start as the command line does."""

from tunewright.core.threads import settle

settle()
