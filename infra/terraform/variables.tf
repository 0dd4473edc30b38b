# --- where and under which names -------------------------------------------------------------------------------------

variable "region" {
  description = "AWS region. Null takes it from the environment (AWS_REGION or the profile)."
  type        = string
  default     = null
}

variable "name_prefix" {
  description = "Start of every resource's name, its state machine is what `skyfan run --on aws --state-machine` takes."
  type        = string
  default     = "skyfan"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name_prefix))
    error_message = "name_prefix must be 2 to 20 characters of a-z, 0-9 and '-', start with a letter and not end with '-'."
  }
}

variable "environment" {
  description = "Added to every name and as a tag, so that several deployments fit in one account: dev, prod. Empty adds nothing."
  type        = string
  default     = ""

  validation {
    condition     = var.environment == "" || can(regex("^[a-z0-9]{1,10}$", var.environment))
    error_message = "environment must be empty or 1 to 10 characters of a-z and 0-9."
  }
}

variable "tags" {
  description = "Tags for every resource, beside application, managed_by, name_prefix and environment."
  type        = map(string)
  default     = {}
}

# --- storage ---------------------------------------------------------------------------------------------------------

variable "bucket_name" {
  description = "Name of the bucket that is created. Null makes <name>-<account>-<region>. Not with existing_bucket_name."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must be 3 to 63 characters of a-z, 0-9, '.' and '-', and start and end with a letter or digit."
  }
}

variable "existing_bucket_name" {
  description = "A bucket that is there already, in this account and region, with data, models and room for results. None is created then, and this one's settings stay as they are."
  type        = string
  default     = null

  validation {
    condition     = var.existing_bucket_name == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.existing_bucket_name))
    error_message = "existing_bucket_name must be 3 to 63 characters of a-z, 0-9, '.' and '-', and start and end with a letter or digit."
  }
}

variable "data_prefixes" {
  description = "Folders of the bucket that hold datasets: functions read them. The first is where the demo dataset goes."
  type        = list(string)
  default     = ["data"]

  validation {
    condition     = length(var.data_prefixes) > 0 && alltrue([for prefix in var.data_prefixes : can(regex("^[^/*?][^*?]*[^/*?]$|^[^/*?]$", prefix))])
    error_message = "data_prefixes must be one or more folders without wildcards or a slash at either end, as data or survey/dr18."
  }
}

variable "model_prefixes" {
  description = "Folders of the bucket that hold models: the executors read them, and people who run put theirs there (models is where `skyfan run` uploads to)."
  type        = list(string)
  default     = ["models"]

  validation {
    condition     = length(var.model_prefixes) > 0 && alltrue([for prefix in var.model_prefixes : can(regex("^[^/*?][^*?]*[^/*?]$|^[^/*?]$", prefix))])
    error_message = "model_prefixes must be one or more folders without wildcards or a slash at either end, as models or scripts/Anomaly Detection."
  }
}

variable "output_prefixes" {
  description = "Folders of the bucket under which runs may write: an output is <prefix>/<name>, or deeper. The first is where the demo writes."
  type        = list(string)
  default     = ["runs"]

  validation {
    condition     = length(var.output_prefixes) > 0 && alltrue([for prefix in var.output_prefixes : can(regex("^[^/*?][^*?]*[^/*?]$|^[^/*?]$", prefix))])
    error_message = "output_prefixes must be one or more folders without wildcards or a slash at either end, as runs or results/team."
  }
}

variable "force_destroy" {
  description = "Lets `terraform destroy` delete the bucket with all data and results in it. Off: destroy stops at a bucket that is not empty."
  type        = bool
  default     = false
}

variable "results_expire_days" {
  description = "Days after which objects under output_prefixes are deleted. 0 keeps them; a stored GB costs about $0.023 a month."
  type        = number
  default     = 0

  validation {
    condition     = var.results_expire_days >= 0 && floor(var.results_expire_days) == var.results_expire_days
    error_message = "results_expire_days must be a whole number of days, 0 to keep results for ever."
  }
}

variable "dataset_arns" {
  description = "Further places that may be read: ARNs of a bucket (arn:aws:s3:::name) or a prefix in one (arn:aws:s3:::name/sdss)."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.dataset_arns : can(regex("^arn:[a-z-]+:s3:::[a-z0-9][a-z0-9.-]+(/[^*?]*[^*?/])?$", arn))])
    error_message = "dataset_arns must be S3 ARNs without wildcards or a slash at the end, as arn:aws:s3:::bucket or arn:aws:s3:::bucket/prefix."
  }
}

variable "dataset_kms_key_arns" {
  description = "KMS keys under which dataset_arns are encrypted (SSE-KMS): functions that read data may use them for that."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.dataset_kms_key_arns : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:\\d{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "dataset_kms_key_arns must be ARNs of keys, as arn:aws:kms:us-east-1:123456789012:key/..., not of aliases."
  }
}

# --- images ----------------------------------------------------------------------------------------------------------

variable "build_images" {
  description = "Build the images with the local Docker CLI and push them during apply. Off: give image_uris."
  type        = bool
  default     = true
}

variable "image_uris" {
  description = "With build_images = false: URI in ECR of the partitioner, executor, executor-torch, aggregator (and rendezvous) image, by tag or digest."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for uri in values(var.image_uris) : can(regex("^\\d{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/[^:@]+(:[^:@]+|@sha256:[0-9a-f]{64})$", uri))])
    error_message = "image_uris must be ECR images with a tag or a digest, since Lambda takes them from nowhere else: <account>.dkr.ecr.<region>.amazonaws.com/name:tag."
  }
}

variable "source_dir" {
  description = "Root of the Skyfan repository, from which images are built. Null takes the one that this module lies in."
  type        = string
  default     = null
}

variable "docker_build_options" {
  description = "Further options for `docker buildx build`, one an element: [\"--build-arg\", \"NAME=value\"]."
  type        = list(string)
  default     = []
}

# --- size and price --------------------------------------------------------------------------------------------------
# A function is billed for its configured memory while it runs ($0.0000166667 per GB-second on x86_64, a fifth less on
# arm64), and gets a vCPU for each 1,769 MB. More memory is therefore more speed for about the same money, until the
# model stops scaling with threads. Accounts that are new may be held to 3,008 MB and 10 concurrent functions; ask for
# more under Service Quotas, it is free.

variable "architecture" {
  description = "Instruction set of functions and images: x86_64, or arm64 (a fifth cheaper; built natively on an ARM machine, slowly elsewhere)."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64."
  }
}

variable "executor_memory_mb" {
  description = "Memory of a rank. 3,008 MB is 1.7 vCPU and $0.18 an hour and rank; 8,846 MB is the first size with all 6 vCPUs, $0.52."
  type        = number
  default     = 3008

  validation {
    condition     = var.executor_memory_mb >= 512 && var.executor_memory_mb <= 10240 && floor(var.executor_memory_mb) == var.executor_memory_mb
    error_message = "executor_memory_mb must be a whole number from 512 to 10240."
  }
}

variable "executor_timeout_s" {
  description = "Seconds that a rank may take; 900 is Lambda's limit. A rank that hangs is billed up to here, and again for each retry."
  type        = number
  default     = 900

  validation {
    condition     = var.executor_timeout_s >= 30 && var.executor_timeout_s <= 900 && floor(var.executor_timeout_s) == var.executor_timeout_s
    error_message = "executor_timeout_s must be a whole number from 30 to 900."
  }
}

variable "executor_ephemeral_mb" {
  description = "Size of /tmp of a rank. The first 512 MB are free, the rest costs $0.0000000309 per GB-second: 0.2% of what memory costs."
  type        = number
  default     = 512

  validation {
    condition     = var.executor_ephemeral_mb >= 512 && var.executor_ephemeral_mb <= 10240 && floor(var.executor_ephemeral_mb) == var.executor_ephemeral_mb
    error_message = "executor_ephemeral_mb must be a whole number from 512 to 10240."
  }
}

variable "executor_reserved_concurrency" {
  description = "Concurrent executions set aside for the executor, taken from the account's. -1 sets none aside; new accounts have none to give."
  type        = number
  default     = -1

  validation {
    condition     = var.executor_reserved_concurrency == -1 || var.executor_reserved_concurrency > 0
    error_message = "executor_reserved_concurrency must be -1 or a number above 0 (0 would stop every rank)."
  }
}

variable "partitioner_memory_mb" {
  description = "Memory of the partitioner, which reads metadata only. It runs for seconds a run: its price is far below a cent."
  type        = number
  default     = 1024

  validation {
    condition     = var.partitioner_memory_mb >= 256 && var.partitioner_memory_mb <= 10240 && floor(var.partitioner_memory_mb) == var.partitioner_memory_mb
    error_message = "partitioner_memory_mb must be a whole number from 256 to 10240."
  }
}

variable "partitioner_timeout_s" {
  description = "Seconds that planning may take; a plan over thousands of files lists them all."
  type        = number
  default     = 300

  validation {
    condition     = var.partitioner_timeout_s >= 10 && var.partitioner_timeout_s <= 900 && floor(var.partitioner_timeout_s) == var.partitioner_timeout_s
    error_message = "partitioner_timeout_s must be a whole number from 10 to 900."
  }
}

variable "aggregator_memory_mb" {
  description = "Memory of the aggregator, which holds the predictions of all samples while it merges them. One invocation a run."
  type        = number
  default     = 3008

  validation {
    condition     = var.aggregator_memory_mb >= 256 && var.aggregator_memory_mb <= 10240 && floor(var.aggregator_memory_mb) == var.aggregator_memory_mb
    error_message = "aggregator_memory_mb must be a whole number from 256 to 10240."
  }
}

variable "aggregator_timeout_s" {
  description = "Seconds that merging may take."
  type        = number
  default     = 900

  validation {
    condition     = var.aggregator_timeout_s >= 10 && var.aggregator_timeout_s <= 900 && floor(var.aggregator_timeout_s) == var.aggregator_timeout_s
    error_message = "aggregator_timeout_s must be a whole number from 10 to 900."
  }
}

variable "map_concurrency" {
  description = "Ranks that run at once, at most: a run that asks for more gets this many. 10 is what a new account has; more costs nothing by itself and shortens the run."
  type        = number
  default     = 10

  validation {
    condition     = var.map_concurrency >= 1 && var.map_concurrency <= 10000 && floor(var.map_concurrency) == var.map_concurrency
    error_message = "map_concurrency must be a whole number from 1 to 10000, the most that a Distributed Map runs at once."
  }
}

variable "run_timeout_s" {
  description = "Seconds after which a whole run is stopped, whatever it is doing: a bound on what a mistake can cost."
  type        = number
  default     = 86400

  validation {
    condition     = var.run_timeout_s >= 60 && var.run_timeout_s <= 31536000 && floor(var.run_timeout_s) == var.run_timeout_s
    error_message = "run_timeout_s must be a whole number of seconds from 60 to 31536000 (a year, the limit of Step Functions)."
  }
}

variable "tolerated_failure_percentage" {
  description = "Percentage of ranks that may fail before a run fails, as `run_command` says it. Work that succeeded is paid for and kept in either case."
  type        = number
  default     = 0

  validation {
    condition     = var.tolerated_failure_percentage >= 0 && var.tolerated_failure_percentage <= 100
    error_message = "tolerated_failure_percentage must be from 0 to 100."
  }
}

# --- observability ---------------------------------------------------------------------------------------------------

variable "log_retention_days" {
  description = "Days that logs are kept. Taking logs in costs $0.50 per GB, keeping them $0.03 per GB and month."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a number of days that CloudWatch Logs offers: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, ..."
  }
}

variable "log_level" {
  description = "Level of the services' logs: DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level must be DEBUG, INFO, WARNING or ERROR."
  }
}

variable "create_dashboard" {
  description = "Create the CloudWatch dashboard. Three are free in an account, each further one costs $3 a month."
  type        = bool
  default     = true
}

variable "create_alarms" {
  description = "Create the alarms on failures and throttles: 11, at $0.10 a month each beyond the account's ten free ones."
  type        = bool
  default     = true
}

variable "alarm_topic_arns" {
  description = "SNS topics that hear of alarms. Empty: alarms are seen on the dashboard only."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:\\d{12}:[A-Za-z0-9_-]+$", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics, as arn:aws:sns:us-east-1:123456789012:name."
  }
}

variable "alarm_email" {
  description = "Address that hears of alarms and of the budget; SNS asks it first. Empty: nobody is written to."
  type        = string
  default     = ""

  validation {
    condition     = var.alarm_email == "" || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email must be empty or an address, as sky@example.org."
  }
}

variable "monthly_budget_usd" {
  description = "Cost of the account in a month of which alarm_email is told at 80%, and when all of it is forecast. 0 watches nothing; two budgets of an account are free."
  type        = number
  default     = 0

  validation {
    condition     = var.monthly_budget_usd >= 0
    error_message = "monthly_budget_usd must be 0 or more."
  }
}

# --- rendezvous ------------------------------------------------------------------------------------------------------

variable "enable_rendezvous" {
  description = "Run the rendezvous service for ranks that talk to each other: Fargate ($9 a month at the default size), load balancer ($16) and two public addresses ($7), while it is on."
  type        = bool
  default     = false
}

variable "rendezvous_cpu" {
  description = "CPU units of the rendezvous service, 1,024 to a vCPU ($29.55 a month each)."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.rendezvous_cpu)
    error_message = "rendezvous_cpu must be 256, 512, 1024, 2048 or 4096."
  }
}

variable "rendezvous_memory_mb" {
  description = "Memory of the rendezvous service ($3.24 a GB and month); Fargate takes 2 to 8 GB per vCPU."
  type        = number
  default     = 512

  validation {
    condition     = var.rendezvous_memory_mb >= 512 && var.rendezvous_memory_mb <= 30720
    error_message = "rendezvous_memory_mb must be from 512 to 30720."
  }
}

variable "rendezvous_allowed_cidrs" {
  description = "IPv4 ranges that may reach the rendezvous service. Functions outside a VPC have no fixed address, so that the default is everyone with the token."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.rendezvous_allowed_cidrs) > 0 && alltrue([for cidr in var.rendezvous_allowed_cidrs : can(cidrhost(cidr, 0))])
    error_message = "rendezvous_allowed_cidrs must be one or more CIDR ranges, as 203.0.113.0/24."
  }
}

variable "rendezvous_vpc_cidr" {
  description = "IPv4 range of the network that the rendezvous service has for itself."
  type        = string
  default     = "10.77.0.0/24"

  validation {
    condition     = can(cidrhost(var.rendezvous_vpc_cidr, 0))
    error_message = "rendezvous_vpc_cidr must be a CIDR range, as 10.77.0.0/24."
  }
}

# --- ranks beside Lambda ---------------------------------------------------------------------------------------------

variable "enable_batch" {
  description = "Make queues of AWS Batch for ranks that Lambda's 15 minutes do not suffice for (`--compute batch`, on Fargate at $0.20 a task and hour). Costs nothing while no job runs."
  type        = bool
  default     = false
}

variable "batch_max_tasks" {
  description = "Tasks of 4 vCPUs and 8 GB that Batch runs at once on Fargate. A new account may have a quota of a few vCPUs only."
  type        = number
  default     = 64

  validation {
    condition     = var.batch_max_tasks >= 1 && var.batch_max_tasks <= 10000 && floor(var.batch_max_tasks) == var.batch_max_tasks
    error_message = "batch_max_tasks must be a whole number from 1 to 10000."
  }
}

variable "batch_gpu_instance_types" {
  description = "Instance types with NVIDIA GPUs and at least 4 vCPUs and 16 GB a GPU for `--compute batch-gpu`, as [\"g5.xlarge\", \"g6.xlarge\"]; with enable_batch. Empty makes no GPU queue. x86_64 only."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for kind in var.batch_gpu_instance_types : can(regex("^[gp][0-9][a-z0-9-]*\\.[a-z0-9]+$", kind))])
    error_message = "batch_gpu_instance_types must be types such as g5.xlarge or p5.4xlarge."
  }
}

variable "batch_gpu_spot" {
  description = "Take Spot instances, often at less than half the price; ranks that are interrupted are computed again."
  type        = bool
  default     = true
}

variable "batch_gpu_max_vcpus" {
  description = "Most vCPUs of GPU instances at once, 4 a task. A new account has a quota of 0: ask for \"All G and VT Spot Instance Requests\" first."
  type        = number
  default     = 16

  validation {
    condition     = var.batch_gpu_max_vcpus >= 4 && floor(var.batch_gpu_max_vcpus) == var.batch_gpu_max_vcpus
    error_message = "batch_gpu_max_vcpus must be a whole number of at least 4."
  }
}

variable "batch_task_timeout_s" {
  description = "Longest attempt of a task of Batch, in seconds."
  type        = number
  default     = 43200

  validation {
    condition     = var.batch_task_timeout_s >= 60 && var.batch_task_timeout_s <= 1209600
    error_message = "batch_task_timeout_s must be from 60 to 1209600 (14 days)."
  }
}

variable "batch_vpc_cidr" {
  description = "IPv4 range of the network that Batch's tasks have for themselves; an address a task."
  type        = string
  default     = "10.78.0.0/18"

  validation {
    condition     = can(cidrhost(var.batch_vpc_cidr, 0)) && can(cidrsubnet(var.batch_vpc_cidr, 2, 0))
    error_message = "batch_vpc_cidr must be a CIDR range, as 10.78.0.0/18."
  }
}

variable "enable_sagemaker" {
  description = "Let runs compute their ranks as processing jobs of SageMaker (`--compute sagemaker`). Costs nothing while no job runs."
  type        = bool
  default     = false
}

variable "sagemaker_instance_type" {
  description = "Instance type of processing jobs: ml.c5.4xlarge ($0.82 an hour), or one with a GPU, as ml.g5.xlarge ($1.41)."
  type        = string
  default     = "ml.c5.4xlarge"

  validation {
    condition     = can(regex("^ml\\.[a-z0-9-]+\\.[a-z0-9]+$", var.sagemaker_instance_type))
    error_message = "sagemaker_instance_type must be a type such as ml.c5.4xlarge."
  }
}

variable "sagemaker_max_instances" {
  description = "Instances of one processing job. Each type has a quota of its own in an account, often 0 for GPUs."
  type        = number
  default     = 4

  validation {
    condition     = var.sagemaker_max_instances >= 1 && var.sagemaker_max_instances <= 100 && floor(var.sagemaker_max_instances) == var.sagemaker_max_instances
    error_message = "sagemaker_max_instances must be a whole number from 1 to 100."
  }
}
