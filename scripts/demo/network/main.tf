# The demo's stack. terraform_data is built into Terraform: nothing is downloaded, nothing is made anywhere.

terraform {
  # Every task gets a fresh container; the state outlives it in a folder that the demo's pool mounts.
  backend "local" {
    path = "/mnt/state/terraform.tfstate"
  }
}

variable "address_range" {
  type    = string
  default = "10.0.0.0/16"
}

resource "terraform_data" "subnet" {
  count = 2
  input = cidrsubnet(var.address_range, 8, count.index)
}

resource "terraform_data" "gateway" {
  input = terraform_data.subnet[*].output
}
