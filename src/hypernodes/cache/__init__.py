"""Results by what made them: signatures of code and inputs, and where results are kept."""
