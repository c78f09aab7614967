"""What the dialect probe is made of: words, questions, figures, findings and what is shown of them."""
