#
# Read it before you run it. Stop Docker first (Stop-Service docker), and run it as an administrator:
#
#     powershell -ExecutionPolicy Bypass -File FILE -DryRun    # says what it would remove
#     powershell -ExecutionPolicy Bypass -File FILE
#
# It removes nothing unless Docker is stopped and still nothing needs any of these layers. It ends at the first
# thing that fails, and can be run again: what is gone is passed over.
#
#Requires -RunAsAdministrator
param(
    # Docker's data root, as `docker info` says it.
    [string] $DataRoot = 'DATA_ROOT',
    # Says what would be removed, and removes nothing.
    [switch] $DryRun
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

# What stands on a layer comes before it.
