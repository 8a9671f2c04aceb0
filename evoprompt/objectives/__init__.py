"""Objectives: what a candidate vector is worth."""

from evoprompt.objectives.survey_alignment import SurveyAlignment, SurveyAlignmentFactory

__all__ = ["SurveyAlignment", "SurveyAlignmentFactory"]
