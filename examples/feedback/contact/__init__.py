"""The form, the mail, and what keeps the mail from being sent twice."""
