"""Measurements of training and prediction beside other libraries; see README.md."""
