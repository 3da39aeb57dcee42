"""What to make of a fitted model: effects by path, ROI, budgets and plans side by side.

Names, dates, money and frames. The counterfactuals are computed in ``causalmmm.engine.decisions``;
which model they come from is not known here.
"""
