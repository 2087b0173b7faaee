$Store = Join-Path -Path $DataRoot -ChildPath 'windowsfilter'
$LayerDb = Join-Path -Path $DataRoot -ChildPath 'image\windowsfilter\layerdb'

if (Get-Process -Name 'dockerd' -ErrorAction SilentlyContinue) {
    throw 'Docker is running: stop it first, with Stop-Service docker.'
}
foreach ($directory in $Store, $LayerDb) {
    if (-not (Test-Path -LiteralPath $directory -PathType Container)) {
        throw "There is no directory ${directory}: say with -DataRoot where Docker keeps its data."
    }
}

$Planned = @{}
$PlannedRecords = @{}
foreach ($layer in $Plan) {
    $Planned[$layer.Name] = $true
    foreach ($record in $layer.Records) { $PlannedRecords[$record] = $true }
}

function Assert-NotPlanned([string] $Name, [string] $User) {
    if ($Planned.ContainsKey($Name)) {
        throw "Nothing was removed: $User needs $Name by now. Make a new plan."
    }
}

function Get-Word([string] $File) {
    if (Test-Path -LiteralPath $File) { return ([System.IO.File]::ReadAllText($File)).Trim() }
    return ''
}

# Nothing may have come to need one of these layers since the plan was made.
foreach ($directory in Get-ChildItem -LiteralPath $Store -Directory -Force) {
    if ($Planned.ContainsKey($directory.Name)) { continue }
    $chain = Join-Path -Path $directory.FullName -ChildPath 'layerchain.json'
    if (-not (Test-Path -LiteralPath $chain)) { continue }
    $parents = ConvertFrom-Json -InputObject ([System.IO.File]::ReadAllText($chain))
    foreach ($parent in $parents) {
        if (-not $parent) { continue }
        $parentName = ($parent.TrimEnd('\', '/') -split '[\\/]')[-1]
        Assert-NotPlanned $parentName $directory.Name
    }
}
$mounts = Join-Path -Path $LayerDb -ChildPath 'mounts'
if (Test-Path -LiteralPath $mounts) {
    foreach ($container in Get-ChildItem -LiteralPath $mounts -Directory -Force) {
        foreach ($file in 'mount-id', 'init-id') {
            Assert-NotPlanned (Get-Word (Join-Path -Path $container.FullName -ChildPath $file)) "container $($container.Name)"
        }
    }
}
$chains = Join-Path -Path $LayerDb -ChildPath 'sha256'
if (Test-Path -LiteralPath $chains) {
    foreach ($entry in Get-ChildItem -LiteralPath $chains -Directory -Force) {
        if ($PlannedRecords.ContainsKey($entry.Name)) { continue }
        Assert-NotPlanned (Get-Word (Join-Path -Path $entry.FullName -ChildPath 'cache-id')) "layerdb's $($entry.Name)"
    }
}

Add-Type -Namespace WindowsFilter -Name Native -MemberDefinition @'
[StructLayout(LayoutKind.Sequential)]
public struct DriverInfo {
    public int Flavour;
    [MarshalAs(UnmanagedType.LPWStr)] public string HomeDir;
}
[DllImport("vmcompute.dll", CharSet = CharSet.Unicode)]
public static extern int DestroyLayer(ref DriverInfo info, string id);
'@

foreach ($layer in $Plan) {
    $name = $layer.Name
    if ($DryRun) {
        Write-Output "would remove $name ($($layer.Bytes) bytes)"
        continue
    }
    # First what Docker knows of it, so that no image that comes later is taken to have it.
    foreach ($record in $layer.Records) {
        $entry = Join-Path -Path $chains -ChildPath $record
        if (Test-Path -LiteralPath $entry) { Remove-Item -LiteralPath $entry -Recurse -Force }
    }
    $removing = $name
    if (-not $name.EndsWith('-removing')) {
        # As Docker does: should the rest fail, it tries again when it starts.
        $removing = "$name-removing"
        if (Test-Path -LiteralPath (Join-Path -Path $Store -ChildPath $name)) {
            for ($n = 1; Test-Path -LiteralPath (Join-Path -Path $Store -ChildPath $removing); $n++) {
                $removing = "$name.$n-removing"
            }
            Rename-Item -LiteralPath (Join-Path -Path $Store -ChildPath $name) -NewName $removing
        }
    }
    $path = Join-Path -Path $Store -ChildPath $removing
    if (-not (Test-Path -LiteralPath $path)) {
        Write-Output "$name is gone already"
        continue
    }
    $info = New-Object -TypeName 'WindowsFilter.Native+DriverInfo'
    $info.Flavour = 1
    $info.HomeDir = ''
    $code = [WindowsFilter.Native]::DestroyLayer([ref] $info, $path)
    if ($code -ne 0) { throw ('DestroyLayer failed for {0}: 0x{1:X8}' -f $path, $code) }
    Write-Output "removed $name ($($layer.Bytes) bytes)"
}
