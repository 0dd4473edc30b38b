# Optional: a mail before a month gets dear. A budget watches and tells; it stops nothing.

resource "aws_budgets_budget" "monthly" {
  for_each = var.monthly_budget_usd > 0 ? { this = true } : {}

  # The whole account's: what a tag costs is known only where somebody has activated it for cost allocation.
  name         = local.global_name
  budget_type  = "COST"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"
  # A month of the past: every month since is watched.
  time_period_start = "2026-01-01_00:00"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      comparison_operator        = "GREATER_THAN"
      subscriber_email_addresses = [var.alarm_email]
    }
  }

  lifecycle {
    precondition {
      condition     = var.alarm_email != ""
      error_message = "With monthly_budget_usd, alarm_email must say who is told."
    }
  }
}
