"""From a trained model to a better fleet, safely: challenger, A/B test, promotion, rollback.

Rules are pure, but for ``job``.
"""
